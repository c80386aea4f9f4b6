// Package nvml reads NVIDIA's GPUs through libnvidia-ml.so.1, which Open loads at
// run time, without cgo.
//
// A program that imports this package is linked dynamically, with the C library
// of the system: so it is imported by vedette-nvml alone, never by the agent.
//
// Functions that a driver does not have, and values that a GPU does not support,
// are missing from the snapshot. Structures have the layout of NVIDIA's nvml.h;
// the test compiles a library in C against the same one.
package nvml
