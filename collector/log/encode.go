package log

import "encoding/binary"

// Wire types of protobuf.
const (
	asVarint  = 0
	asFixed64 = 1
	asBytes   = 2
	asFixed32 = 5
)

// Fields of an AnyValue.
const (
	valueString = 1
	valueBool   = 2
	valueInt    = 3
	valueDouble = 4
	valueArray  = 5
	valueMap    = 6
)

// Fields of a LogRecord.
const (
	recordTime     = 1
	recordSeverity = 2
	recordText     = 3 // of the severity
	recordBody     = 5
	recordAttr     = 6
	recordTraceID  = 9
	recordSpanID   = 10
	recordObserved = 11
)

func appendVarint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

func appendFixed64(dst []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(dst, v) }

// appendMessage appends a field with the given content; its number is below 16.
func appendMessage[T ~[]byte | ~string](dst []byte, num int, content T) []byte {
	dst = append(dst, byte(num<<3|asBytes))
	dst = binary.AppendUvarint(dst, uint64(len(content)))
	return append(dst, content...)
}

// appendStringValue appends an AnyValue of a text.
func appendStringValue[T ~[]byte | ~string](dst []byte, text T) []byte {
	return appendMessage(dst, valueString, text)
}

// appendKeyValue appends a KeyValue of an AnyValue.
func appendKeyValue[T ~[]byte | ~string](dst []byte, key T, value []byte) []byte {
	return appendMessage(appendMessage(dst, 1, key), 2, value)
}

// messageBytes is the size of a field with content of n bytes.
func messageBytes(n int) int { return 1 + varintBytes(uint64(n)) + n }

func varintBytes(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// appendHead appends the tag and length of a field whose content of n bytes
// follows.
func appendHead(dst []byte, num, n int) []byte {
	return binary.AppendUvarint(append(dst, byte(num<<3|asBytes)), uint64(n))
}

// appendResourceLogs appends a field resource_logs of an ExportLogsServiceRequest:
// a Resource message and LogRecord fields of one scope.
func appendResourceLogs(dst, resource, records []byte) []byte {
	scope := messageBytes(len(records))
	dst = appendHead(dst, 1, messageBytes(len(resource))+scope)
	dst = appendMessage(dst, 1, resource)
	return appendMessage(dst, 2, records)
}
