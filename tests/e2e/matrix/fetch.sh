# fetch.sh WHERE CLIENT: how each host answers, one line each: NAME METHOD STATUS, `refused` where there was only an alert.
where=$1 client=$2

ask() {
    url=https://$1.example.com/$where/$client trust=''
    case $client in
        curl)
            if [ "$1" = spliced ]; then trust='--cacert /vendor.crt'; fi
            said=$(curl -sS -m 60 -o /dev/null -w 'HTTP %{http_code}' $trust -X "$2" "$url" 2>&1) ;;
        xh)
            if [ "$1" = spliced ]; then trust='--verify /vendor.crt'; fi
            said=$(xh --ignore-stdin --timeout 60 -h $trust "$2" "$url" 2>&1) ;;
        apt)
            said=$(/usr/lib/apt/apt-helper -o Acquire::https::spliced.example.com::CAInfo=/vendor.crt \
                download-file "$url" /tmp/fetched 2>&1) && said='HTTP 200' ;;
    esac
    case $said in
        *[Dd]enied*) said='HTTP refused' ;;
        HTTP*) ;;
        *) echo "$said" >&2 ;;
    esac
    set -- "$1" "$2" $said
    echo "$1 $2 $4"
}

for name in spliced secret limited denied; do
    ask $name GET
    if [ "$client" != apt ]; then ask $name POST; fi
done
