//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 */
/* DNS where the functions of TCP and UDP return. */
#include "dns_core.h"
#define HOOK_UDP
#include "hook_fexit.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
