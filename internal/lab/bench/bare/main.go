// Command bare is the least that a net/http server does: the yardstick for the
// daemon's faces. It answers every request with what it has read from stdin, on
// the unix socket that its argument names and on a loopback port, which it
// prints.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

func run(socket string) error {
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	length := strconv.Itoa(len(body))
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", length)
		w.Write(body)
	})
	onSocket, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	onPort, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(onPort.Addr())
	failed := make(chan error)
	for _, l := range []net.Listener{onSocket, onPort} {
		go func() { failed <- http.Serve(l, handler) }()
	}
	return <-failed
}
