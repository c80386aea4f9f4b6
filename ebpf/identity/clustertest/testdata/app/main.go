// Command app is what runs in the pods of a test's cluster, and what holds their
// sandboxes open.
//
// Without arguments it waits to be ended. With "serve" it answers HTTP on the
// address in ADDR, says "listening on" and the address, and a line of log for every
// request. With "once" it says a line and ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
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
	case "once":
		fmt.Println("done once")
	case "serve":
		err = serve(ctx, os.Getenv("ADDR"))
	default:
		err = fmt.Errorf("app: got %q, want serve, once or nothing", command)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
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
