package telemetry

import (
	"fmt"
	"io"
	"log/slog"
)

// LogConfig says what is logged and how.
type LogConfig struct {
	// Level is the least severe level that is logged: debug, info, warn or error.
	Level slog.Level `yaml:"level"`
	// Format is text (logfmt) or json.
	Format string `yaml:"format"`
}

// DefaultLogConfig logs at info, as text.
func DefaultLogConfig() LogConfig { return LogConfig{Level: slog.LevelInfo, Format: "text"} }

// Validate names the keys whose values are not possible.
func (c LogConfig) Validate() error {
	if c.Format != "text" && c.Format != "json" {
		return fmt.Errorf("format: got %q, want text or json", c.Format)
	}
	return nil
}

// NewLogger returns a logger that writes to w.
func NewLogger(c LogConfig, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
