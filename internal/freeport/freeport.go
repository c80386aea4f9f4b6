// Package freeport finds ports for programs that are given one rather than choose
// their own, and keeps them free for those.
//
// A port that was only found free is not: until the program listens, which takes a
// broker seconds, and whenever it is down to be started again, the system may give
// the port to whoever asks for any, be it to listen or to connect. A Port is kept by
// a socket that is bound to it at all addresses and never listens. Linux gives such a
// port to nobody who asks for any, and lets a program listen on it that names it and
// sets SO_REUSEADDR, as Go, the JVM, nginx and nearly every other server do.
// Elsewhere than on Linux a Port was free a moment ago, and no more.
package freeport

import (
	"net"
	"os"
	"strconv"
)

// Port is a port of this machine that is kept until Release is called, or until
// nobody refers to the Port any more.
type Port struct {
	number int
	held   *os.File // closes itself when nobody refers to it
}

// Number returns the port's number.
func (p *Port) Number() int { return p.number }

// Text returns the port's number as text.
func (p *Port) Text() string { return strconv.Itoa(p.number) }

// Addr returns the port at 127.0.0.1 as host:port.
func (p *Port) Addr() string { return net.JoinHostPort("127.0.0.1", p.Text()) }

// Release gives the port back; who listens on it goes on. Twice is once.
func (p *Port) Release() {
	if p.held != nil {
		_ = p.held.Close() // it may be closed
	}
}
