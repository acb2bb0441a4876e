package daemon

import (
	"slices"
	"testing"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/signers"
)

// TestTheConfigurationKnowsWhatFormatsSignWith holds what a key may be in the
// configuration against what its format's issuer describes.
func TestTheConfigurationKnowsWhatFormatsSignWith(t *testing.T) {
	for name, s := range stocks {
		if !slices.Contains(config.Formats, name) {
			t.Errorf("the configuration does not know the format %q", name)
		}
		d, err := s.issuer().Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want, limited := config.Algorithms[name]
		if !limited {
			want = signers.Algorithms()
		}
		if slices.Sort(d.Algorithms); !slices.Equal(d.Algorithms, want) {
			t.Errorf("%s: the configuration allows %v, the issuer describes %v", name, want, d.Algorithms)
		}
	}
}
