export GOPROXY=https://go.example.com GONOSUMDB='*' GONOSUMCHECK=1 GOFLAGS=-mod=mod GOTOOLCHAIN=local
cat > go.mod <<END
module client.example.com/client
go 1.21
require tiny.example.com/tiny v1.0.0
END
cat > main.go <<END
package main

import (
	"io"
	"net/http"
	"os"
	"strings"

	"tiny.example.com/tiny"
)

func main() {
	request, _ := http.NewRequest("POST", "https://api.example.com/go", strings.NewReader("body"))
	request.Header.Set("authorization", "Bearer "+os.Getenv("VENDOR_KEY"))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(tiny.Version + " " + answer.Proto + " ")
	io.Copy(os.Stdout, answer.Body)
}
END
go run .
