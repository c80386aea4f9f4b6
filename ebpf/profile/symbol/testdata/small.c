/* The fixtures small-*: two functions and one that starts them. */
volatile unsigned long sink;
__attribute__((noinline)) void inner(int n) { for (int i = 0; i < n; i++) sink += i; }
__attribute__((noinline)) void outer(int n) { inner(n); sink++; }
void _start(void) { outer(3); for (;;) ; }
