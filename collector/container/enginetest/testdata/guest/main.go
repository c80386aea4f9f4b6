// Command guest is what runs in the tests' containers: a server that logs, burns
// processor time, takes memory and writes to its disk when it is told to. It is
// told by HTTP on the Unix socket /control/guest, and on a TCP address if it is
// given one. Called with hold and a number it takes so many MiB and ends.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

var held [][]byte // what /hold took; it is never given back

func main() {
	if len(os.Args) == 3 && os.Args[1] == "hold" { // as another process of the container
		mb, _ := strconv.Atoi(os.Args[2])
		take(mb)
		return
	}
	end := make(chan os.Signal, 1) // as the first process of its container it would outlive the signal
	signal.Notify(end, syscall.SIGTERM)
	if _, err := os.Stat("/control"); err != nil { // a sandbox, which holds the namespaces of a pod open
		<-end
		return
	}
	go func() {
		<-end
		os.Exit(0)
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	mux.HandleFunc("POST /burn", burn)
	mux.HandleFunc("POST /hold", hold)
	mux.HandleFunc("POST /write", write)
	mux.HandleFunc("POST /log", logLines)
	if len(os.Args) > 1 {
		l, err := net.Listen("tcp", os.Args[1])
		exit(err)
		mux.HandleFunc("GET /address", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, l.Addr()) })
		go func() { exit(http.Serve(l, mux)) }()
	}
	const socket = "/control/guest"
	_ = os.Remove(socket) // of the run before, if the container was started again
	l, err := net.Listen("unix", socket)
	exit(err)
	exit(http.Serve(l, mux))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(r *http.Request, key string) int {
	n, _ := strconv.Atoi(r.FormValue(key))
	return n
}

// burn uses ms milliseconds of processor time.
func burn(_ http.ResponseWriter, r *http.Request) {
	used := func() int64 {
		var use syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
		return (use.Utime.Nano() + use.Stime.Nano()) / 1e6
	}
	for end := used() + int64(number(r, "ms")); used() < end; {
	}
}

// hold takes mb MiB of memory.
func hold(_ http.ResponseWriter, r *http.Request) { take(number(r, "mb")) }

func take(mb int) {
	b := make([]byte, mb<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	held = append(held, b)
}

// write writes mb MiB to a file, past the page cache, so that they are counted for
// this container on every version of cgroups.
func write(w http.ResponseWriter, r *http.Request) {
	const size = 1 << 20
	b, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile("/written", os.O_CREATE|os.O_WRONLY|syscall.O_DIRECT, 0o600); err == nil {
			for range number(r, "mb") {
				if _, err = f.Write(b); err != nil {
					break
				}
			}
			_ = f.Close()
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// logLines writes n lines that begin with their number, counted from from, and are
// at least size bytes long, to the streams in turn: those of even numbers to
// stdout. The lines of both keep their order only within their stream.
func logLines(_ http.ResponseWriter, r *http.Request) {
	streams := [2]*bufio.Writer{bufio.NewWriter(os.Stdout), bufio.NewWriter(os.Stderr)}
	from, pad := number(r, "from"), strings.Repeat(`x"\y`, number(r, "size")/4)
	for i := from; i < from+number(r, "n"); i++ {
		fmt.Fprintf(streams[i%2], "line %d é %s\n", i, pad)
	}
	for _, s := range streams {
		_ = s.Flush()
	}
}
