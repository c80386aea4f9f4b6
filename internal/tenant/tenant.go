// Package tenant names the tenant that a request or a query belongs to. Every
// key, path and limit of the pipeline carries a tenant; a request that names
// none belongs to Default. The id becomes a directory name and a metric label,
// so its alphabet is small.
package tenant

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

const (
	// Header is the request header that names the tenant.
	Header = "X-Scope-OrgID"
	// Default is the tenant of requests without Header.
	Default = "default"
	// MaxLength bounds the length of an id in bytes.
	MaxLength = 128
)

// InvalidError reports an id that Validate refuses.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string {
	return "tenant id in header " + Header + " is not valid: " + e.Reason
}

// Validate returns an *InvalidError unless id is 1 to MaxLength letters,
// digits and characters of "-_.", and does not start with a dot.
func Validate(id string) error {
	switch {
	case id == "":
		return &InvalidError{"it is empty"}
	case len(id) > MaxLength:
		return &InvalidError{fmt.Sprintf("%d bytes, want at most %d", len(id), MaxLength)}
	case id[0] == '.':
		return &InvalidError{"it starts with a dot"}
	}
	for i := range len(id) {
		if !allowed(id[i]) {
			return &InvalidError{fmt.Sprintf("byte %q at position %d, want a letter, a digit or one of - _ .", id[i], i)}
		}
	}
	return nil
}

func allowed(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

// IsDirectory reports whether id can be the name of a directory of its own, which
// more can be than Validate allows. It guards the file system below doors that check
// what users may choose.
func IsDirectory(id string) bool {
	return id != "" && len(id) <= 150 && id[0] != '.' && !strings.ContainsAny(id, "/\\\x00")
}

// FromRequest returns the tenant that r names in Header, Default if it names
// none, or an *InvalidError.
func FromRequest(r *http.Request) (string, error) {
	values := r.Header.Values(Header)
	switch len(values) {
	case 0:
		return Default, nil
	case 1:
		if values[0] == "" {
			return Default, nil
		}
		return values[0], Validate(values[0])
	}
	return "", &InvalidError{fmt.Sprintf("it is given %d times", len(values))}
}

type contextKey struct{}

// NewContext returns a context that carries the tenant id.
func NewContext(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, contextKey{}, id)
}

// FromContext returns the tenant that ctx carries, or Default.
func FromContext(ctx context.Context) string {
	if id, ok := ctx.Value(contextKey{}).(string); ok {
		return id
	}
	return Default
}
