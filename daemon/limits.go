package daemon

import (
	"cmp"
	"os"
	"path/filepath"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/signers/guard"
)

// The default limits where a service has quotas: a tenth below what it gives to
// a new account, so that it has nothing to throttle. AWS gives 500 to 1,000
// requests a second, by region, for RSA keys and as many for the others
// (https://docs.aws.amazon.com/kms/latest/developerguide/requests-per-second.html);
// Google 3,000 a minute for asymmetric keys in the HSM, and 60,000 in all, and
// counts by the second too (https://docs.cloud.google.com/kms/quotas).
const (
	awsRate         = 450 // of each kind
	gcpHSMRate      = 45
	gcpSoftwareRate = 900
)

// How many keys may be made in an hour: where each costs money, and elsewhere,
// where what is full is the token.
const (
	dearCreations  = 20
	cheapCreations = 1000
)

// limits is how a back-end is guarded, with defaults of its type.
func (d *Daemon) limits(b config.Backend) (guard.Config, error) {
	l := b.Limits
	g := guard.Config{
		Name: b.Name, InFlight: l.InFlight, Rate: l.Rate, RateRSA: l.Rates.RSA, RateECC: l.Rates.ECC,
		Failures: l.Failures, Pause: l.Pause.D(), Log: d.log,
	}
	creations := cheapCreations
	switch b.Type {
	case "awskms":
		creations = dearCreations
		g.RateRSA, g.RateECC = cmp.Or(g.RateRSA, awsRate), cmp.Or(g.RateECC, awsRate)
	case "gcpkms":
		creations = dearCreations
		g.Rate = cmp.Or(g.Rate, gcpRate(b.GCPKMS.Protection))
	}
	if d.cfg == nil { // a command that was told to make keys, and says how many
		return g, nil
	}
	dir := filepath.Join(d.cfg.StateDir, "creations")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return g, err
	}
	var err error
	g.Budget, err = guard.OpenBudget(filepath.Join(dir, b.Name), cmp.Or(l.CreationsPerHour, creations), now)
	return g, err
}

func gcpRate(protection string) int {
	if protection == "SOFTWARE" {
		return gcpSoftwareRate
	}
	return gcpHSMRate
}
