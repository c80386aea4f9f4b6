//go:build !linux

package freeport

import (
	"fmt"
	"net"
)

// Reserve finds a port.
func Reserve() (*Port, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	return &Port{number: l.Addr().(*net.TCPAddr).Port}, l.Close()
}
