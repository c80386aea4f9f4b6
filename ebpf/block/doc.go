// Package block is the feature block: requests to block devices, how long they
// wait and take, and what becomes of them, by device and operation.
//
// The kernel counts where a driver is given a request and where the request ends.
package block
