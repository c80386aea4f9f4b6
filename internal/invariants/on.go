//go:build invariants

package invariants

// Enabled says whether this build checks invariants.
const Enabled = true
