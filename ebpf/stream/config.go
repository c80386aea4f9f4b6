package stream

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Config says which protocols are followed, and what that may cost.
type Config struct {
	// Protocols that are followed, of http2 (gRPC with it), postgresql, mysql, redis
	// and kafka.
	Protocols []string `yaml:"protocols"`
	// HeadBytes is how much of each read and write of a database's or Kafka's
	// connection is copied, from its beginning; the last 32 bytes are copied too.
	HeadBytes int `yaml:"head_bytes"`
	// RingBytes is the size of the buffer between the kernel and Vedette, a power of
	// two. What finds no room in it is lost, and counted.
	RingBytes int `yaml:"ring_bytes"`
	// MaxConnections bounds the connections that are followed at a time. The one
	// that has been silent for longest makes room.
	MaxConnections int `yaml:"max_connections"`
}

// DefaultConfig follows every protocol.
func DefaultConfig() Config {
	c := Config{HeadBytes: 512, RingBytes: 4 << 20, MaxConnections: 8192}
	for _, k := range kinds {
		c.Protocols = append(c.Protocols, k.name)
	}
	return c
}

// Validate names every key that is wrong.
func (c Config) Validate() error {
	var errs []error
	var known []string
	for _, k := range kinds {
		known = append(known, k.name)
	}
	for _, p := range c.Protocols {
		if !slices.Contains(known, p) {
			errs = append(errs, fmt.Errorf("protocols: got %q, want some of %s", p, strings.Join(known, ", ")))
		}
	}
	if c.HeadBytes < 64 || c.HeadBytes > 4096 {
		errs = append(errs, fmt.Errorf("head_bytes: got %d, want 64 to 4096", c.HeadBytes))
	}
	if c.RingBytes < 512<<10 || c.RingBytes > 256<<20 || c.RingBytes&(c.RingBytes-1) != 0 {
		errs = append(errs, fmt.Errorf("ring_bytes: got %d, want a power of two, %d to %d", c.RingBytes, 512<<10, 256<<20))
	}
	if c.MaxConnections < 16 || c.MaxConnections > 1<<20 {
		errs = append(errs, fmt.Errorf("max_connections: got %d, want 16 to %d", c.MaxConnections, 1<<20))
	}
	return errors.Join(errs...)
}

// mask is the set of kinds to follow, as the kernel takes it.
func (c Config) mask() uint32 {
	var m uint32
	for _, k := range kinds {
		if slices.Contains(c.Protocols, k.name) {
			m |= 1 << k.kind
		}
	}
	return m
}
