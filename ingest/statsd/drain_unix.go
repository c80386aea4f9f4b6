//go:build unix

package statsd

import "syscall"

// readNow reads what a socket has. held is false if that is nothing. The socket does
// not block, as no socket of package net does.
func readNow(fd uintptr, b []byte) (n int, held bool) {
	for {
		n, err := syscall.Read(int(fd), b)
		if err != syscall.EINTR {
			return n, err == nil
		}
	}
}
