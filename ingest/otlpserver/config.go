package otlpserver

import (
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/vedette-io/vedette/ingest/door"
)

// Config says where OTLP is served and what is taken.
type Config struct {
	// GRPC is the listener of OTLP over gRPC.
	GRPC GRPCConfig `yaml:"grpc"`

	// HTTP is the listener of OTLP over HTTP.
	HTTP HTTPConfig `yaml:"http"`

	// Limits hold for both together, beside those of ingest.
	Limits door.EntryConfig `yaml:"limits"`
}

// GRPCConfig is the listener of OTLP over gRPC.
type GRPCConfig struct {
	// Listen is its address; empty is no listener. Think of http.bearer_token
	// before you choose one that other machines reach.
	Listen string `yaml:"listen"`
}

// HTTPConfig is the listener of OTLP over HTTP.
type HTTPConfig struct {
	// Listen is its address; empty is no listener. Think of http.bearer_token
	// before you choose one that other machines reach.
	Listen string `yaml:"listen"`

	// AllowedOrigins lists the origins, such as https://shop.example, whose pages
	// may send metrics from a browser; "*" is all of them.
	AllowedOrigins []string `yaml:"allowed_origins"`
}

// DefaultConfig returns OTLP's usual ports, on loopback.
func DefaultConfig() Config {
	return Config{
		GRPC: GRPCConfig{Listen: "127.0.0.1:4317"},
		HTTP: HTTPConfig{Listen: "127.0.0.1:4318"},
	}
}

// Validate names every bad key.
func (c Config) Validate() error {
	var errs []error
	for _, v := range []struct{ key, listen string }{{"grpc.listen", c.GRPC.Listen}, {"http.listen", c.HTTP.Listen}} {
		if _, _, err := net.SplitHostPort(v.listen); v.listen != "" && err != nil {
			errs = append(errs, fmt.Errorf("%s: got %q, want host:port, or nothing", v.key, v.listen))
		}
	}
	for i, o := range c.HTTP.AllowedOrigins {
		if u, err := url.Parse(o); o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != o) {
			errs = append(errs, fmt.Errorf("http.allowed_origins[%d]: got %q, want scheme://host[:port] or *", i, o))
		}
	}
	if many, ok := c.Limits.Validate().(interface{ Unwrap() []error }); ok { // what errors.Join makes
		for _, err := range many.Unwrap() {
			errs = append(errs, fmt.Errorf("limits.%w", err))
		}
	}
	return errors.Join(errs...)
}
