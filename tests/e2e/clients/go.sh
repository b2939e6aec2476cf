export GOPROXY=https://go.example.com GONOSUMDB='*' GOTOOLCHAIN=local
cat > go.mod <<END
module client.example.com/client
go 1.21
require tiny.example.com/tiny v1.0.0
END
# Without a build, which takes a quarter of an hour under emulation.
go mod download
grep -o 'tiny 1.0.0' "$(go env GOMODCACHE)/tiny.example.com/tiny@v1.0.0/tiny.go"
