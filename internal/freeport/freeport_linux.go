package freeport

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Reserve finds a port and keeps it.
func Reserve() (*Port, error) {
	// Both families at once; a machine without IPv6 has the other alone.
	p, err := reserve(syscall.AF_INET6, &syscall.SockaddrInet6{})
	if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		p, err = reserve(syscall.AF_INET, &syscall.SockaddrInet4{})
	}
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	return p, nil
}

func reserve(family int, anywhere syscall.Sockaddr) (*Port, error) {
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	p := &Port{held: os.NewFile(uintptr(fd), "port")}
	if p.number, err = bind(fd, family, anywhere); err != nil {
		p.Release()
		return nil, err
	}
	return p, nil
}

// bind binds a socket to a port that the system chooses.
func bind(fd, family int, anywhere syscall.Sockaddr) (int, error) {
	if family == syscall.AF_INET6 {
		if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0); err != nil {
			return 0, err
		}
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, err
	}
	if err := syscall.Bind(fd, anywhere); err != nil {
		return 0, err
	}
	got, err := syscall.Getsockname(fd)
	switch got := got.(type) {
	case *syscall.SockaddrInet6:
		return got.Port, err
	case *syscall.SockaddrInet4:
		return got.Port, err
	}
	return 0, err
}
