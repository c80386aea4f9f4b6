// Command app is a server and a client of HTTP over TLS, for tests.
//
//	app serve CERT KEY         prints its address; ends with its standard input
//	app ask URL N 1|2          asks N times with HTTP/1.1 or HTTP/2, and says so
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if args[0] == "serve" {
		return serve(args[1], args[2])
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	return ask(args[1], n, args[3] == "2")
}

func serve(cert, key string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.WriteHeader(code)
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintln(w, n)
	})
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) {
		for range 5 {
			fmt.Fprint(w, strings.Repeat("x", 30_000))
			w.(http.Flusher).Flush()
		}
	})
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.ServeTLS(l, mux, cert, key)
}

func ask(url string, n int, http2 bool) error {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetHTTP2(http2)
	c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: p}}
	// A line tells that it runs, a line is waited for, and one tells that it has
	// asked; it stays until its standard input ends.
	fmt.Println("ready")
	one := make([]byte, 1)
	if _, err := os.Stdin.Read(one); err != nil {
		return err
	}
	for range n {
		resp, err := c.Post(url, "text/plain", bytes.NewReader(make([]byte, 5000)))
		if err != nil {
			return err
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	fmt.Println("done")
	io.Copy(io.Discard, os.Stdin)
	return nil
}
