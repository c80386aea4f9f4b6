package signal

// SeverityClass is one of the ranges of OTLP's severity numbers.
type SeverityClass uint8

// Classes of severity.
const (
	SeverityUnset SeverityClass = iota
	SeverityTrace
	SeverityDebug
	SeverityInfo
	SeverityWarn
	SeverityError
	SeverityFatal
	NumSeverityClasses
)

// SeverityClassOf returns the class of a severity number.
func SeverityClassOf(number uint64) SeverityClass {
	if number < 1 || number > 24 {
		return SeverityUnset
	}
	return SeverityClass((number + 3) / 4)
}

// String returns the class as a metric's label value.
func (c SeverityClass) String() string {
	names := [NumSeverityClasses]string{"unset", "trace", "debug", "info", "warn", "error", "fatal"}
	if c >= NumSeverityClasses {
		return "unset"
	}
	return names[c]
}

// Logs is what is known of a batch of log records without looking at them again:
// the records themselves are in the payload.
type Logs struct {
	Tenant string
	Buf    []byte // that names lie in

	// Services has an entry for every resource, in the order of the batch.
	Services []LogService

	// Times of the oldest and newest record, unix nanoseconds; 0 if no record has
	// a time.
	MinTime, MaxTime int64
}

// LogService is the share of one resource in a batch of log records.
type LogService struct {
	Name       ByteRange // its service.name; empty if it has none
	Bytes      int       // of the records' messages
	BySeverity [NumSeverityClasses]int
}

// Records returns how many records the service has.
func (s *LogService) Records() int {
	n := 0
	for _, k := range s.BySeverity {
		n += k
	}
	return n
}

// Len returns how many records the batch has.
func (l *Logs) Len() int {
	n := 0
	for i := range l.Services {
		n += l.Services[i].Records()
	}
	return n
}

// NameOf returns the name of a service of the batch.
func (l *Logs) NameOf(s *LogService) []byte {
	return l.Buf[s.Name.Off : s.Name.Off+s.Name.Len]
}

// Reset empties l for reuse.
func (l *Logs) Reset() {
	*l = Logs{Buf: l.Buf[:0], Services: l.Services[:0]}
}
