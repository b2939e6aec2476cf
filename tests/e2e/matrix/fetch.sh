# fetch.sh WHERE CLIENT: how each host answers, one line each: NAME METHOD STATUS.
where=$1 client=$2

ask() {
    url=https://$1.example.com/$where/$client trust=''
    case $client in
        curl)
            if [ "$1" = spliced ]; then trust='--cacert /vendor.crt'; fi
            said=$(curl -sS -m 60 -o /dev/null -w 'HTTP %{http_code}' $trust -X "$2" "$url") ;;
        xh)
            if [ "$1" = spliced ]; then trust='--verify /vendor.crt'; fi
            said=$(xh --ignore-stdin --timeout 60 -h $trust "$2" "$url") ;;
        apt)
            said=$(/usr/lib/apt/apt-helper -o Acquire::https::spliced.example.com::CAInfo=/vendor.crt \
                download-file "$url" /fetched 2>&1) && said='HTTP 200'
            case $said in *'403  Forbidden'*) said='HTTP 403' ;; esac ;;
    esac
    case $said in
        HTTP*) set -- "$1" "$2" $said && echo "$1 $2 $4" ;;
        *) echo "$1 $2 failed: $said" ;;
    esac
}

for name in spliced secret limited denied; do
    ask $name GET
    if [ "$client" != apt ]; then ask $name POST; fi
done
