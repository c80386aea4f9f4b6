package door

import "fmt"

// TenantHeader names the tenant of a request.
const TenantHeader = "X-Scope-OrgID"

// DefaultTenant is the tenant of requests that name none.
const DefaultTenant = "default"

// TenantError reports a tenant name that is not allowed.
type TenantError struct{ Tenant, Detail string }

func (e *TenantError) Error() string {
	return fmt.Sprintf("tenant %.160q: %s", e.Tenant, e.Detail)
}

// CheckTenant verifies that a tenant name is 1 to 150 of the characters a-z,
// A-Z, 0-9 and !-_.*'() and is safe as a file name.
func CheckTenant(name string) error {
	const most = 150
	if name == "" || len(name) > most {
		return &TenantError{name, fmt.Sprintf("got %d characters, want 1 to %d", len(name), most)}
	}
	if name == "." || name == ".." {
		return &TenantError{name, "is not allowed"}
	}
	for i := range len(name) {
		if !tenantByte(name[i]) {
			return &TenantError{name, fmt.Sprintf("character %q is not allowed, want letters, digits and !-_.*'()", name[i])}
		}
	}
	return nil
}

func tenantByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	switch c {
	case '!', '-', '_', '.', '*', '\'', '(', ')':
		return true
	}
	return false
}
