package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"time"
)

var (
	region      = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	keyRing     = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[^/]+$`)
	connection  = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/ekmConnections/[^/]+$`)
	aliasPrefix = regexp.MustCompile(`^[a-zA-Z0-9:/_-]{1,100}$`)
)

func (k checker) awskms(at string, a AWSKMS) {
	if k.need(at+".region", a.Region != "", "such as eu-central-1") && !region.MatchString(a.Region) {
		k.wrong(at+".region", quote(a.Region)+" is no region", "such as eu-central-1")
	}
	if a.AliasPrefix != "" && !aliasPrefix.MatchString(a.AliasPrefix) {
		k.wrong(at+".alias_prefix", quote(a.AliasPrefix)+" can't begin an alias", "letters, digits and :/_- such as signet/prod/")
	}
	if a.Endpoint != "" {
		k.endpoint(at+".endpoint", a)
	}
	if a.DeleteAfter != 0 && (a.DeleteAfter < 7 || a.DeleteAfter > 30) || a.DeleteAfter == 0 && k.places[at+".delete_after_days"].line > 0 {
		k.wrong(at+".delete_after_days", fmt.Sprintf("%d is not 7 to 30", a.DeleteAfter), "the service keeps a key for 7 to 30 days")
	}
	k.within(at+".settle", a.Settle, 5*time.Minute, "choose less: whoever makes a key waits for it")
}

// endpoint wants TLS, and a flag, for what is not on this machine.
func (k checker) endpoint(at string, a AWSKMS) {
	u, err := url.Parse(a.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		k.wrong(at, quote(a.Endpoint)+" is no URL", "such as https://vpce-0123.kms.eu-central-1.vpce.amazonaws.com")
		return
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if err == nil && ip.IsLoopback() {
		return
	}
	if u.Scheme != "https" {
		k.wrong(at, "without TLS off this machine", "write https://")
	}
	if !a.AllowEndpoint {
		k.wrong(at, "another endpoint than the region's sees what is signed, and with whose credentials", "set allow_endpoint: true beside it, if it is yours")
	}
}

func (k checker) gcpkms(at string, g GCPKMS) {
	const form = "projects/PROJECT/locations/LOCATION/keyRings/RING"
	if k.need(at+".key_ring", g.KeyRing != "", form) && !keyRing.MatchString(g.KeyRing) {
		k.wrong(at+".key_ring", quote(g.KeyRing)+" is no key ring", form)
	}
	k.oneOf(at+".protection", g.Protection, "", "HSM", "SOFTWARE", "EXTERNAL", "EXTERNAL_VPC")
	if g.Connection != "" && (g.Protection != "EXTERNAL_VPC" || !connection.MatchString(g.Connection)) {
		k.wrong(at+".connection", quote(g.Connection)+" is no EKM connection for this protection level", "projects/PROJECT/locations/LOCATION/ekmConnections/CONNECTION, with protection: EXTERNAL_VPC")
	}
	if addr, err := netip.ParseAddrPort(g.Endpoint); g.Endpoint != "" && (err != nil || !addr.Addr().IsLoopback()) {
		k.wrong(at+".endpoint", quote(g.Endpoint)+" is not an address on loopback", "leave it out: it has neither TLS nor credentials, and is for tests")
	}
	k.within(at+".generation", g.Generation, 10*time.Minute, "choose less: whoever makes a key waits for it")
}
