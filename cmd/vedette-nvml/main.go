// Command vedette-nvml reads NVIDIA's GPUs for the agent: it answers every line
// on its standard input with a line of JSON on its standard output. The agent
// starts it on machines that have NVIDIA's driver; it is a program of its own
// because it loads the driver's library, which a program that is linked
// statically, as the agent is, is not able to do.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vedette-io/vedette/collector/gpu"
	"github.com/vedette-io/vedette/collector/gpu/nvml"
)

func main() {
	lib, err := nvml.Open("")
	if err == nil {
		err = gpu.Serve(context.Background(), lib, os.Stdin, os.Stdout)
		err = errors.Join(err, lib.Close())
	}
	switch {
	case err == nil:
	case errors.Is(err, gpu.ErrAbsent):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(gpu.ExitAbsent)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
