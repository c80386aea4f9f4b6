package buffer

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// This file alone knows the byte offsets of docs/format/buffer.md.

// Version ladder of all files of the log. A reader takes its own version and
// older ones.
const (
	version1       = 1 // first
	currentVersion = version1
)

const (
	identityMagic = "VEDLOGID"
	segmentMagic  = "VEDLOGSG"
	groupMagic    = "VEDLOGGO"
	recordMagic   = "VREC"

	identityBytes      = 72
	segmentHeaderBytes = 64
	recordHeaderBytes  = 64
	groupHeaderBytes   = 16

	maxPayloadBytes = 1 << 30
	maxTenantBytes  = 1024
)

// Flags of a segment and of a record.
const (
	segmentRelaxed = 1 << 0 // appends are acknowledged before they are fsynced
	segmentJump    = 1 << 1 // the offsets before it were left out on purpose

	recordLast = 1 << 0 // last record of its append
)

// ErrCorruption marks an error that comes from damaged files.
var ErrCorruption = errors.New("corrupt file")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// sealed appends the checksum of b to b.
func sealed(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, checksum(b)) }

// unseal checks magic, version and the checksum in the last four bytes.
func unseal(b []byte, magic string) error {
	if len(b) < len(magic)+8 {
		return fmt.Errorf("%w: got %d bytes, want at least %d", ErrCorruption, len(b), len(magic)+8)
	}
	if string(b[:len(magic)]) != magic {
		return fmt.Errorf("%w: got magic %q, want %q", ErrCorruption, b[:len(magic)], magic)
	}
	end := len(b) - 4
	if got, want := binary.LittleEndian.Uint32(b[end:]), checksum(b[:end]); got != want {
		return fmt.Errorf("%w: got checksum %08x, want %08x", ErrCorruption, got, want)
	}
	if v := binary.LittleEndian.Uint32(b[len(magic):]); v < version1 || v > currentVersion {
		return &VersionError{Got: v}
	}
	return nil
}

// VersionError says that a file was written by a newer Vedette.
type VersionError struct{ Got uint32 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("version %d, want <= %d: written by a newer Vedette", e.Got, currentVersion)
}

const sourcePrefix = "embedded/"

// parseSource returns the UUID in "embedded/<uuid>".
func parseSource(source string) (id [16]byte, err error) {
	text, ok := strings.CutPrefix(source, sourcePrefix)
	digits := strings.ReplaceAll(text, "-", "")
	if n, hexErr := hex.Decode(id[:], []byte(digits[:min(len(digits), 32)])); !ok || len(text) != 36 || len(digits) != 32 ||
		n != 16 || hexErr != nil || formatSource(id) != source {
		return id, fmt.Errorf("parse log source %q: want %s and a lower-case UUID", source, sourcePrefix)
	}
	return id, nil
}

func formatSource(id [16]byte) string {
	h := hex.EncodeToString(id[:])
	return sourcePrefix + h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func encodeIdentity(source string) []byte {
	b := make([]byte, identityBytes-4, identityBytes)
	copy(b, identityMagic)
	binary.LittleEndian.PutUint32(b[8:], currentVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(source)))
	copy(b[16:], source)
	return sealed(b)
}

func decodeIdentity(b []byte) (source string, err error) {
	if err := unseal(b, identityMagic); err != nil {
		return "", err
	}
	n := binary.LittleEndian.Uint32(b[12:])
	if len(b) != identityBytes || n > identityBytes-20 {
		return "", fmt.Errorf("%w: source of %d bytes in a file of %d, want %d", ErrCorruption, n, len(b), identityBytes)
	}
	source = string(b[16 : 16+n])
	if _, err := parseSource(source); err != nil {
		return "", fmt.Errorf("%w: %w", ErrCorruption, err)
	}
	return source, nil
}

// segmentHeader is what a segment file begins with.
type segmentHeader struct {
	flags        uint32
	id           [16]byte
	base         int64
	createdMilli int64
	salt         uint64
	partition    uint32
}

func (h *segmentHeader) encode() []byte {
	b := make([]byte, segmentHeaderBytes-4, segmentHeaderBytes)
	copy(b, segmentMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], currentVersion)
	le.PutUint32(b[12:], h.flags)
	copy(b[16:], h.id[:])
	le.PutUint64(b[32:], uint64(h.base))
	le.PutUint64(b[40:], uint64(h.createdMilli))
	le.PutUint64(b[48:], h.salt)
	le.PutUint32(b[56:], h.partition)
	return sealed(b)
}

func decodeSegmentHeader(b []byte) (h segmentHeader, err error) {
	if len(b) < segmentHeaderBytes {
		return h, fmt.Errorf("%w: header of %d bytes, want %d", ErrCorruption, len(b), segmentHeaderBytes)
	}
	b = b[:segmentHeaderBytes]
	if err := unseal(b, segmentMagic); err != nil {
		return h, err
	}
	le := binary.LittleEndian
	h.flags = le.Uint32(b[12:])
	h.id = [16]byte(b[16:32])
	h.base = int64(le.Uint64(b[32:]))
	h.createdMilli = int64(le.Uint64(b[40:]))
	h.salt = le.Uint64(b[48:])
	h.partition = le.Uint32(b[56:])
	return h, nil
}

// seed returns the checksum state with which the segment's records begin.
func (h *segmentHeader) seed() uint32 {
	var salt [8]byte
	binary.LittleEndian.PutUint64(salt[:], h.salt)
	return checksum(salt[:])
}

const segmentSuffix = ".segment"

func segmentName(base int64) string { return fmt.Sprintf("%020d%s", base, segmentSuffix) }

func parseSegmentName(name string) (base int64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, err == nil && base >= 0
}

// recordHeader is a record but for its tenant and payload.
type recordHeader struct {
	offset      int64
	durable     int64 // offsets below were fsynced when this record was written
	minTime     int64
	maxTime     int64
	appendMilli int64
	payloadLen  uint32
	payloadSum  uint32
	tenantLen   uint16
	format      Format
	flags       uint8
}

func (h *recordHeader) bytes() int64 {
	return recordHeaderBytes + int64(h.tenantLen) + int64(h.payloadLen)
}

// appendTo appends the header and the tenant.
func (h *recordHeader) appendTo(dst []byte, seed uint32, tenant string) []byte {
	start := len(dst)
	le := binary.LittleEndian
	dst = append(dst, recordMagic...)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint64(dst, uint64(h.offset))
	dst = le.AppendUint64(dst, uint64(h.durable))
	dst = le.AppendUint64(dst, uint64(h.minTime))
	dst = le.AppendUint64(dst, uint64(h.maxTime))
	dst = le.AppendUint64(dst, uint64(h.appendMilli))
	dst = le.AppendUint32(dst, h.payloadLen)
	dst = le.AppendUint32(dst, h.payloadSum)
	dst = le.AppendUint16(dst, h.tenantLen)
	dst = append(dst, byte(h.format), h.flags, 0, 0, 0, 0)
	dst = append(dst, tenant...)
	le.PutUint32(dst[start+4:], crc32.Update(seed, castagnoli, dst[start+8:]))
	return dst
}

// decode parses the fixed part; the caller checks the sum once it has the
// tenant too.
func (h *recordHeader) decode(b []byte) (sum uint32, ok bool) {
	b = b[:recordHeaderBytes]
	if string(b[:4]) != recordMagic {
		return 0, false
	}
	le := binary.LittleEndian
	h.offset = int64(le.Uint64(b[8:]))
	h.durable = int64(le.Uint64(b[16:]))
	h.minTime = int64(le.Uint64(b[24:]))
	h.maxTime = int64(le.Uint64(b[32:]))
	h.appendMilli = int64(le.Uint64(b[40:]))
	h.payloadLen = le.Uint32(b[48:])
	h.payloadSum = le.Uint32(b[52:])
	h.tenantLen = le.Uint16(b[56:])
	h.format = Format(b[58])
	h.flags = b[59]
	return le.Uint32(b[4:]), h.offset >= 0 && h.payloadLen <= maxPayloadBytes && h.tenantLen <= maxTenantBytes
}

func encodeOffsets(offsets []int64) []byte {
	b := make([]byte, 0, groupHeaderBytes+8*len(offsets)+4)
	le := binary.LittleEndian
	b = append(b, groupMagic...)
	b = le.AppendUint32(b, currentVersion)
	b = le.AppendUint32(b, uint32(len(offsets)))
	for _, o := range offsets {
		b = le.AppendUint64(b, uint64(o))
	}
	return sealed(b)
}

func decodeOffsets(b []byte) ([]int64, error) {
	if err := unseal(b, groupMagic); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(b[12:])
	if n > maxPartitions || len(b) != groupHeaderBytes+8*int(n)+4 {
		return nil, fmt.Errorf("%w: %d partitions in a file of %d bytes", ErrCorruption, n, len(b))
	}
	offsets := make([]int64, n)
	for i := range offsets {
		offsets[i] = int64(binary.LittleEndian.Uint64(b[groupHeaderBytes+8*i:]))
		if offsets[i] < 0 {
			return nil, fmt.Errorf("%w: partition %d has the negative offset %d", ErrCorruption, i, offsets[i])
		}
	}
	return offsets, nil
}

const (
	groupPrefix = "group-"
	groupSuffix = ".offsets"
)

func groupFileName(group string) string { return groupPrefix + group + groupSuffix }

func parseGroupFileName(name string) (group string, ok bool) {
	group, ok = strings.CutPrefix(name, groupPrefix)
	if !ok {
		return "", false
	}
	group, ok = strings.CutSuffix(group, groupSuffix)
	return group, ok && checkName("group", group) == nil
}
