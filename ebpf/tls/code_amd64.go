package tls

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"

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

// instruction is one of a function.
type instruction struct {
	at int
	x86asm.Inst
}

// disassemble decodes a function. Code that is not understood to its end gives
// an error: a probe within an instruction would destroy it.
func disassemble(code []byte) ([]instruction, error) {
	var list []instruction
	for i := 0; i < len(code); {
		if bytes.HasPrefix(code[i:], []byte{0xf3, 0x0f, 0x1e, 0xfa}) {
			list = append(list, instruction{i, x86asm.Inst{Op: x86asm.FNOP, Len: 4}}) // ENDBR64
			i += 4
			continue
		}
		inst, err := x86asm.Decode(code[i:], 64)
		if err != nil || inst.Len == 0 {
			if len(bytes.Trim(code[i:], "\xcc\x00")) == 0 {
				break // padding
			}
			return nil, fmt.Errorf("instruction at offset %d: %w", i, err)
		}
		list = append(list, instruction{i, inst})
		i += inst.Len
	}
	return list, nil
}

// returns gives the offsets of the RET instructions.
func returns(code []byte) ([]int, error) {
	list, err := disassemble(code)
	if err != nil {
		return nil, err
	}
	var at []int
	for _, in := range list {
		if in.Op == x86asm.RET {
			at = append(at, in.at)
		}
	}
	return at, nil
}

// emulated says whether the kernel, when a probe on the instruction is hit, does
// itself what the instruction does. Any other is executed elsewhere in single
// step, which takes several times as long.
func emulated(code []byte) bool {
	switch b := code[0]; {
	case b >= 0x50 && b <= 0x57, // PUSH
		b >= 0x70 && b <= 0x7f,          // Jcc
		b == 0xe8, b == 0xe9, b == 0xeb: // CALL, JMP
		return true
	case b == 0x0f && len(code) > 1:
		return code[1] >= 0x80 && code[1] <= 0x8f // Jcc
	}
	return false
}

// The registers that hold what a function was called with, in all their sizes.
var (
	cArguments = []x86asm.Reg{
		x86asm.RDI, x86asm.EDI, x86asm.DI, x86asm.DIB, x86asm.RSI, x86asm.ESI, x86asm.SI, x86asm.SIB,
		x86asm.RCX, x86asm.ECX, x86asm.CX, x86asm.CL, x86asm.CH,
	}
	goArguments = []x86asm.Reg{
		x86asm.RAX, x86asm.EAX, x86asm.AX, x86asm.AL, x86asm.AH, x86asm.RBX, x86asm.EBX, x86asm.BX, x86asm.BL, x86asm.BH,
		x86asm.R14, x86asm.R14L, x86asm.R14W, x86asm.R14B,
	}
	cResult = []x86asm.Reg{x86asm.RAX, x86asm.EAX, x86asm.AX, x86asm.AL, x86asm.AH}
)

// spares says whether an instruction is a plain one that leaves registers alone.
func spares(in x86asm.Inst, registers []x86asm.Reg) bool {
	switch in.Op {
	case x86asm.TEST, x86asm.CMP, x86asm.PUSH, x86asm.NOP, x86asm.FNOP:
		return true
	case x86asm.MOV, x86asm.LEA, x86asm.XOR, x86asm.SUB, x86asm.ADD, x86asm.AND, x86asm.POP, x86asm.MOVSXD:
		r, ok := in.Args[0].(x86asm.Reg)
		return !ok || !slices.Contains(registers, r)
	}
	return false
}

// entry gives the offset of an instruction that is cheap to watch and that every
// call passes with its arguments still in their registers; 0, the first, if there
// is none such.
func entry(code []byte, arguments []x86asm.Reg) int {
	list, err := disassemble(code)
	if err != nil {
		return 0
	}
	for _, in := range list {
		if emulated(code[in.at:]) {
			return in.at
		}
		if !spares(in.Inst, arguments) {
			break
		}
	}
	return 0
}

func goEntry(code []byte) int { return entry(code, goArguments) }
func cEntry(code []byte) int  { return entry(code, cArguments) }

// cLeaves gives, for each RET of a C function, the offset of an instruction that
// is cheap to watch, leads to that RET alone, and finds the result in its
// register; nil: there are returns without, so a uretprobe has to do. Compilers
// that guard the stack leave one: the branch that tells whether it is intact.
func cLeaves(code []byte) []int {
	list, err := disassemble(code)
	if err != nil {
		return nil
	}
	targets := make(map[int]bool)
	for _, in := range list {
		rel, ok := in.Args[0].(x86asm.Rel)
		if !ok || in.Op == x86asm.CALL {
			if in.Op == x86asm.JMP {
				return nil // a jump to where a register says
			}
			continue
		}
		to := in.at + in.Len + int(rel)
		if to < 0 || to >= len(code) {
			return nil // another function returns for this one
		}
		targets[to] = true
	}
	var at []int
	for i, in := range list {
		if in.Op != x86asm.RET {
			continue
		}
		leave := -1
		for j := i; j > 0 && !targets[list[j].at]; j-- {
			before := list[j-1]
			if code[before.at]&0xf0 == 0x70 || code[before.at] == 0x0f && emulated(code[before.at:]) { // Jcc, not taken
				leave = before.at
				break
			}
			if !spares(before.Inst, cResult) {
				break
			}
		}
		if leave < 0 {
			return nil
		}
		at = append(at, leave)
	}
	return at
}
