// Package dns is the feature dns: what processes ask name servers, over UDP and
// TCP, how long the answers take, what they say, and what is never answered.
//
// The kernel pairs questions and answers by socket and id, and tells each pair
// once, through a ring buffer that is read ten times a second. Counting is done
// here, not in the kernel, because names must be folded to a bounded number of
// domains, and that takes the list of public suffixes. DNS is rare enough for
// it: a lookup costs the process that asks a round trip.
package dns
