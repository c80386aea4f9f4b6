package tls

import (
	"bytes"
	"debug/elf"
	"fmt"

	"golang.org/x/arch/x86/x86asm"
)

const machine = elf.EM_X86_64

// goPrologue says whether code begins by comparing the stack with its limit, as
// Go's functions with a frame do.
func goPrologue(code []byte) bool {
	for _, p := range [][]byte{
		{0x49, 0x3b, 0x66, 0x10},       // CMPQ SP, 16(R14)
		{0x4c, 0x8d, 0x64, 0x24},       // LEAQ -x(SP), R12
		{0x4c, 0x8d, 0xa4, 0x24},       // the same, of a large frame
		{0x49, 0x89, 0xe4, 0x49, 0x81}, // MOVQ SP, R12; SUBQ x, R12
	} {
		if bytes.HasPrefix(code, p) {
			return true
		}
	}
	return false
}

// returns gives the offsets of the RET instructions. Code that is not understood
// to its end gives an error: a probe within an instruction would destroy it.
func returns(code []byte) ([]int, error) {
	var at []int
	for i := 0; i < len(code); {
		inst, err := x86asm.Decode(code[i:], 64)
		if err != nil || inst.Len == 0 {
			if len(bytes.Trim(code[i:], "\xcc\x00")) == 0 {
				break // padding
			}
			return nil, fmt.Errorf("instruction at offset %d: %w", i, err)
		}
		if inst.Op == x86asm.RET {
			at = append(at, i)
		}
		i += inst.Len
	}
	return at, nil
}
