// Package gpu reads NVIDIA's GPUs and names the series as the DCGM exporter does.
//
//	libnvidia-ml.so.1 ◄─ package nvml ─ vedette-nvml ═stdin, stdout═ Helper ─► Collector ─► DCGM_FI_*
//
// NVIDIA's library is loaded at run time, which a program that is linked
// statically is not able to do. So a small second program, vedette-nvml, loads
// it and answers a line with a line of JSON; it is started only on machines that
// have NVIDIA's driver. A driver that hangs or crashes takes that program with
// it, never the agent.
//
// Invariants:
//
//   - A value that a GPU does not support makes no series; what is read from one
//     does not depend on the others.
//   - Without a driver nothing is started and nothing is complained about.
//   - Collect takes Config.Timeout at most.
package gpu
