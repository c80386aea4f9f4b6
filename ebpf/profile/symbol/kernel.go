package symbol

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strconv"
)

// Bounds of kallsyms.
const (
	maxKernelNames = 16 << 20 // bytes
	// maxKernelFunction is how far an address may be from the symbol before it.
	maxKernelFunction = 1 << 20
)

// kernelSymbol is one function of the kernel.
type kernelSymbol struct {
	addr uint64
	name uint32
	size uint16 // bytes of the name
}

// kernelTable is the functions of the kernel, of its modules and of eBPF.
type kernelTable struct {
	symbols []kernelSymbol
	names   []byte
}

// readKernel reads kallsyms. A table without symbols is that of a kernel which
// does not tell (kernel.kptr_restrict).
func readKernel(path string) (*kernelTable, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the kernel's symbols: %w", err)
	}
	defer f.Close()
	return parseKernel(f)
}

// parseKernel reads lines such as
//
//	ffffffff81001000 T do_syscall_64
//	ffffffffc0001000 t nf_hook	[nf_tables]
func parseKernel(r io.Reader) (*kernelTable, error) {
	k := &kernelTable{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		addr, rest, ok := bytes.Cut(lines.Bytes(), []byte(" "))
		if !ok || len(rest) < 3 || bytes.IndexByte([]byte("tTwW"), rest[0]) < 0 {
			continue
		}
		name, _, _ := bytes.Cut(rest[2:], []byte("\t"))
		a, err := strconv.ParseUint(string(addr), 16, 64)
		if err != nil || a == 0 || len(name) == 0 || len(name) > maxShown || len(k.names) > maxKernelNames {
			continue
		}
		k.symbols = append(k.symbols, kernelSymbol{a, uint32(len(k.names)), uint16(len(name))})
		k.names = append(k.names, name...)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the kernel's symbols: %w", err)
	}
	slices.SortStableFunc(k.symbols, func(a, b kernelSymbol) int { return cmp.Compare(a.addr, b.addr) })
	k.symbols, k.names = slices.Clip(k.symbols), slices.Clip(k.names)
	return k, nil
}

// find gives the name of the function at an address.
func (k *kernelTable) find(addr uint64) (string, bool) {
	i := sort.Search(len(k.symbols), func(i int) bool { return k.symbols[i].addr > addr }) - 1
	if i < 0 || addr-k.symbols[i].addr > maxKernelFunction {
		return "", false
	}
	// Of several names for one address the first is taken.
	for i > 0 && k.symbols[i-1].addr == k.symbols[i].addr {
		i--
	}
	s := k.symbols[i]
	return Clean(string(k.names[s.name : s.name+uint32(s.size)])), true
}

func (k *kernelTable) bytes() int64 { return int64(cap(k.symbols))*16 + int64(cap(k.names)) }
