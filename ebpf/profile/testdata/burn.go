// The program burn uses a processor in main.burn.
package main

var sink uint64

//go:noinline
func burn(n int) {
	for i := range n {
		sink = sink*31 + uint64(i)
	}
}

//go:noinline
func inner() { burn(1e7); sink++ }

//go:noinline
func outer() { inner(); sink++ }

func main() {
	for {
		outer()
	}
}
