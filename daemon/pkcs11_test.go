//go:build cgo

package daemon

import (
	"slices"
	"testing"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/signers/pkcs11"
)

// TestTheConfigurationKnowsTheQuirks: it is checked without the package that
// has them.
func TestTheConfigurationKnowsTheQuirks(t *testing.T) {
	for name, lists := range map[string][2][]string{
		"unattested": {config.Unattestable, pkcs11.Excusable()},
		"omit":       {config.Omissible, pkcs11.Omissible()},
	} {
		if !slices.Equal(slices.Sorted(slices.Values(lists[0])), slices.Sorted(slices.Values(lists[1]))) {
			t.Errorf("%s: the configuration allows %v, the package %v", name, lists[0], lists[1])
		}
	}
}
