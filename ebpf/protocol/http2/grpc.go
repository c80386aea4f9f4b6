package http2

// codeNames are gRPC's, by number.
var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// Codes that gRPC gives to what HTTP/2 says.
const (
	cancelled         = 1
	unknownCode       = 2
	deadlineExceeded  = 4
	permissionDenied  = 7
	resourceExhausted = 8
	unimplemented     = 12
	internal          = 13
	unavailable       = 14
	dataLoss          = 15
	unauthenticated   = 16
)

// statusCode reads grpc-status.
func statusCode(b []byte) int8 {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return unknownCode
		}
		if n = n*10 + int(c-'0'); n >= len(codeNames) {
			return unknownCode
		}
	}
	if len(b) == 0 {
		return unknownCode
	}
	return int8(n)
}

// resetStatus is what gRPC makes of the error code of a RST_STREAM.
func resetStatus(code uint32) int8 {
	switch code {
	case 0x7: // REFUSED_STREAM
		return unavailable
	case 0x0, 0x8: // NO_ERROR, CANCEL
		return cancelled
	case 0xb: // ENHANCE_YOUR_CALM
		return resourceExhausted
	case 0xc: // INADEQUATE_SECURITY
		return permissionDenied
	}
	return internal
}

// httpStatus is what gRPC makes of a response without grpc-status.
func httpStatus(status [3]byte, known bool) int8 {
	if !known {
		return unknownCode
	}
	switch string(status[:]) {
	case "400":
		return internal
	case "401":
		return unauthenticated
	case "403":
		return permissionDenied
	case "404":
		return unimplemented
	case "429", "502", "503", "504":
		return unavailable
	}
	return unknownCode
}

// failsServer says which codes are the server's fault, by OpenTelemetry's rule.
func failsServer(code int8) bool {
	switch code {
	case unknownCode, deadlineExceeded, unimplemented, internal, unavailable, dataLoss:
		return true
	}
	return false
}
