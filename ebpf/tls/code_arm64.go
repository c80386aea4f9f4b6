package tls

import (
	"debug/elf"
	"encoding/binary"
)

const machine = elf.EM_AARCH64

// goPrologue says whether code begins by reading the limit of the stack, as Go's
// functions with a frame do.
func goPrologue(code []byte) bool {
	return len(code) >= 4 && binary.LittleEndian.Uint32(code) == 0xf9400b90 // MOVD 16(g), R16
}

// returns gives the offsets of the RET instructions. All instructions have four
// bytes, and Go always returns by the link register.
func returns(code []byte) ([]int, error) {
	var at []int
	for i := 0; i+4 <= len(code); i += 4 {
		if binary.LittleEndian.Uint32(code[i:]) == 0xd65f03c0 {
			at = append(at, i)
		}
	}
	return at, nil
}

// There is no instruction that is known to be cheaper to watch than the first.
func goEntry([]byte) int { return 0 }
func cEntry([]byte) int  { return 0 }

// cLeaves leaves the returns to a uretprobe.
func cLeaves([]byte) []int { return nil }
