package pushgateway

import "fmt"

// RequestError says that a request is not understood.
type RequestError struct{ Detail string }

func (e *RequestError) Error() string { return e.Detail }

// InconsistentError says that pushed metrics are invalid, or do not go together
// with themselves or with those of other groups.
type InconsistentError struct{ Err error }

func (e *InconsistentError) Error() string {
	return "pushed metrics are invalid or inconsistent with existing metrics: " + e.Err.Error()
}

func (e *InconsistentError) Unwrap() error { return e.Err }

// LimitError says that a push would exceed a limit of the configuration.
type LimitError struct {
	What  string
	Limit int
}

func (e *LimitError) Error() string { return fmt.Sprintf("push: %s: want at most %d", e.What, e.Limit) }

// CorruptError says that a group's file is damaged.
type CorruptError struct{ File, Detail string }

func (e *CorruptError) Error() string { return fmt.Sprintf("read group %s: %s", e.File, e.Detail) }
