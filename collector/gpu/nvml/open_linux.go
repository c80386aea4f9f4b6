//go:build linux && (amd64 || arm64)

package nvml

import (
	"cmp"
	"fmt"

	"github.com/ebitengine/purego"

	"github.com/vedette-io/vedette/collector/gpu"
)

// Open loads the library at a path, or where the system has it if that is empty.
// An error that wraps gpu.ErrAbsent says that there is none, or no GPU.
func Open(path string) (*Library, error) {
	handle, err := purego.Dlopen(cmp.Or(path, "libnvidia-ml.so.1"), purego.RTLD_LAZY|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("%w: load NVML: %w", gpu.ErrAbsent, err)
	}
	var f functions
	for name, fn := range f.symbols() {
		if address, err := purego.Dlsym(handle, name); err == nil {
			purego.RegisterFunc(fn, address)
		}
	}
	return newLibrary(f)
}
