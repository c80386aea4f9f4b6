/* Uses a processor in burn_c. */
volatile unsigned long sink;

void burn_c(int n)
{
	for (int i = 0; i < n; i++)
		sink = sink * 31 + i;
}

void inner_c(void)
{
	burn_c(10000000);
	sink++; /* no tail call */
}

void outer_c(void)
{
	inner_c();
	sink++;
}

int main(void)
{
	for (;;)
		outer_c();
}
