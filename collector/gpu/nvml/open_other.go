//go:build !linux || !(amd64 || arm64)

package nvml

import (
	"fmt"
	"runtime"

	"github.com/vedette-io/vedette/collector/gpu"
)

// Open says that NVML is not to be had here.
func Open(string) (*Library, error) {
	return nil, fmt.Errorf("%w: NVML is not read on %s/%s", gpu.ErrAbsent, runtime.GOOS, runtime.GOARCH)
}
