FROM localhost/debian:13
COPY fetch.sh vendor.crt /
RUN sh /fetch.sh build apt > /said
