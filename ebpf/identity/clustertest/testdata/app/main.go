// Command app is what runs in the pods of a test's cluster, and what holds their
// sandboxes open.
//
// Without arguments it waits to be ended. With "serve" it answers HTTP on the
// address in ADDR, says "listening on" and the address, and a line of log for every
// request. With "count" and a number it says the numbers up to that, a thousand every
// 200 ms, and ends.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	command := ""
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	var err error
	switch command {
	case "":
		<-ctx.Done()
	case "count":
		err = count(ctx, os.Args[2:])
	case "serve":
		err = serve(ctx, os.Getenv("ADDR"))
	default:
		err = fmt.Errorf("app: got %q, want serve, count or nothing", command)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func count(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("app count: got %q, want a number", args)
	}
	last, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	w := bufio.NewWriter(os.Stdout)
	for n := 1; n <= last; n++ {
		fmt.Fprintf(w, "number %d of %d, with some more text to make the line long\n", n, last)
		if n%1000 == 0 {
			if err := w.Flush(); err != nil {
				return err
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return nil
			}
		}
	}
	return w.Flush()
}

func serve(ctx context.Context, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("request", r.URL.Path)
		if r.URL.Path == "/metrics" {
			fmt.Fprintln(w, "app_up 1")
		}
	})}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	fmt.Println("listening on", l.Addr())
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
