package fakekms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// specs are the kinds of keys that can sign, and how they are made.
var specs = map[string]func() (crypto.Signer, error){
	"ECC_NIST_P256": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	"ECC_NIST_P384": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	"ECC_NIST_P521": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
	"RSA_2048":      func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	"RSA_3072":      func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	"RSA_4096":      func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 4096) },
	"ECC_NIST_EDWARDS25519": func() (crypto.Signer, error) {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	},
}

// offered are the signing algorithms of a kind of key.
func offered(spec string) []string {
	switch {
	case strings.HasPrefix(spec, "RSA"):
		return []string{
			"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
			"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
		}
	case spec == "ECC_NIST_P256":
		return []string{"ECDSA_SHA_256"}
	case spec == "ECC_NIST_P384":
		return []string{"ECDSA_SHA_384"}
	case spec == "ECC_NIST_P521":
		return []string{"ECDSA_SHA_512"}
	}
	return []string{"ED25519_SHA_512", "ED25519_PH_SHA_512"}
}

func arn(id string) string { return "arn:aws:kms:" + Region + ":" + account + ":key/" + id }

func (s *Server) createKey(in request) (any, error) {
	generate := specs[in.KeySpec]
	if generate == nil || in.KeyUsage != "SIGN_VERIFY" {
		return nil, fails("ValidationException", "KeySpec %s, KeyUsage %s", in.KeySpec, in.KeyUsage)
	}
	if s.quota.keys > 0 && len(s.keys) >= s.quota.keys {
		return nil, fails("LimitExceededException", "The quota of %d KMS keys is used up.", s.quota.keys)
	}
	private, err := generate()
	if err != nil {
		return nil, err
	}
	s.made++
	k := &key{
		id: fmt.Sprintf("%08d-aaaa-bbbb-cccc-%012d", s.made, s.made), spec: in.KeySpec, private: private,
		tags: map[string]string{}, state: "Enabled", origin: "AWS_KMS", created: s.now(), found: s.now().Add(s.settle),
	}
	for _, t := range in.Tags {
		k.tags[t.TagKey] = t.TagValue
	}
	s.keys[k.id] = k
	return map[string]any{"KeyMetadata": k.metadata()}, nil
}

func (k *key) metadata() map[string]any {
	m := map[string]any{
		"KeyId": k.id, "Arn": arn(k.id), "AWSAccountId": account, "Enabled": k.state == "Enabled", "KeyState": k.state,
		"KeySpec": k.spec, "CustomerMasterKeySpec": k.spec, "KeyUsage": "SIGN_VERIFY", "Origin": k.origin,
		"KeyManager": "CUSTOMER", "MultiRegion": false, "CreationDate": float64(k.created.UnixMilli()) / 1000, "SigningAlgorithms": offered(k.spec),
	}
	if k.replicas != nil {
		var replicas []map[string]any
		for _, region := range k.replicas {
			replicas = append(replicas, map[string]any{"Arn": strings.Replace(arn(k.id), Region, region, 1), "Region": region})
		}
		m["MultiRegion"] = true
		m["MultiRegionConfiguration"] = map[string]any{
			"MultiRegionKeyType": "PRIMARY", "PrimaryKey": map[string]any{"Arn": arn(k.id), "Region": Region}, "ReplicaKeys": replicas,
		}
	}
	if !k.deletion.IsZero() && k.state == "PendingDeletion" {
		m["DeletionDate"] = float64(k.deletion.Unix())
	}
	return m
}

// lookup finds a key by its id, its ARN or an alias.
func (s *Server) lookup(name string) (*key, error) {
	if strings.HasPrefix(name, "alias/") {
		a := s.aliases[name]
		if a == nil || s.now().Before(a.found) {
			return nil, fails("NotFoundException", "Alias arn:aws:kms:%s:%s:%s is not found.", Region, account, name)
		}
		name = a.key
	}
	k := s.keys[strings.TrimPrefix(name, arn(""))]
	if k == nil || s.now().Before(k.found) {
		return nil, fails("NotFoundException", "Key '%s' does not exist", name)
	}
	return k, nil
}

func (s *Server) describeKey(in request) (any, error) {
	k, err := s.lookup(in.KeyId)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyMetadata": k.metadata()}, nil
}

// usable finds a key that can be used now.
func (s *Server) usable(name string) (*key, error) {
	k, err := s.lookup(name)
	switch {
	case err != nil:
		return nil, err
	case s.now().Before(k.usable):
		return k, nil // the change has not got everywhere
	case k.state == "Disabled":
		return nil, fails("DisabledException", "%s is disabled.", arn(k.id))
	case k.state != "Enabled":
		return nil, fails("KMSInvalidStateException", "%s is pending deletion.", arn(k.id))
	}
	return k, nil
}

func (s *Server) getPublicKey(in request) (any, error) {
	k, err := s.usable(in.KeyId)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"KeyId": arn(k.id), "PublicKey": der, "KeySpec": k.spec, "KeyUsage": "SIGN_VERIFY", "SigningAlgorithms": offered(k.spec),
	}, nil
}

func (s *Server) sign(in request) (any, error) {
	k, err := s.usable(in.KeyId)
	switch {
	case err != nil:
		return nil, err
	case len(in.Message) == 0 || len(in.Message) > 4096:
		return nil, fails("ValidationException", "Value at 'message' failed to satisfy constraint: length between 1 and 4096")
	case !slices.Contains(offered(k.spec), in.SigningAlgorithm):
		return nil, fails("InvalidKeyUsageException", "%s can't be used with %s", in.SigningAlgorithm, k.spec)
	}
	signer := k.private
	if s.swapped {
		s.swapped = false
		if signer, err = specs[k.spec](); err != nil {
			return nil, err
		}
	}
	latency := s.latency
	s.mu.Unlock() // signatures are made at the same time
	time.Sleep(latency)
	sig, err := signWith(signer, in)
	s.mu.Lock()
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": arn(k.id), "Signature": sig, "SigningAlgorithm": in.SigningAlgorithm}, nil
}

// signWith signs as the algorithm's name says. ED25519_SHA_512 takes RAW alone;
// of the rest RAW is hashed here.
func signWith(k crypto.Signer, in request) ([]byte, error) {
	if in.SigningAlgorithm == "ED25519_SHA_512" {
		if in.MessageType != "RAW" {
			return nil, fails("ValidationException", "ED25519_SHA_512 takes MessageType RAW")
		}
		return k.Sign(rand.Reader, in.Message, crypto.Hash(0))
	}
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[in.SigningAlgorithm[len(in.SigningAlgorithm)-3:]]
	digest := in.Message
	if in.MessageType != "DIGEST" {
		h := hash.New()
		h.Write(in.Message)
		digest = h.Sum(nil)
	}
	if len(digest) != hash.Size() {
		return nil, fails("ValidationException", "Digest is invalid length for algorithm %s.", in.SigningAlgorithm)
	}
	if strings.HasPrefix(in.SigningAlgorithm, "RSASSA_PSS") {
		return k.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash})
	}
	return k.Sign(rand.Reader, digest, hash)
}

func (s *Server) scheduleKeyDeletion(in request) (any, error) {
	k, err := s.lookup(in.KeyId)
	switch {
	case err != nil:
		return nil, err
	case strings.HasPrefix(in.KeyId, "alias/"):
		return nil, fails("NotFoundException", "Invalid keyId '%s'", in.KeyId)
	case in.PendingWindowInDays != 0 && (in.PendingWindowInDays < 7 || in.PendingWindowInDays > 30):
		return nil, fails("ValidationException", "PendingWindowInDays must be between 7 and 30")
	case k.state == "PendingDeletion", k.state == "PendingReplicaDeletion":
		return nil, fails("KMSInvalidStateException", "%s is pending deletion.", arn(k.id))
	}
	s.leave(k)
	if len(k.replicas) > 0 {
		k.state = "PendingReplicaDeletion"
		return map[string]any{"KeyId": arn(k.id), "KeyState": k.state, "PendingWindowInDays": in.PendingWindowInDays}, nil
	}
	days := in.PendingWindowInDays
	if days == 0 {
		days = 30
	}
	k.state, k.deletion = "PendingDeletion", s.now().Add(time.Duration(days)*24*time.Hour)
	return map[string]any{"KeyId": arn(k.id), "KeyState": k.state, "DeletionDate": float64(k.deletion.Unix()), "PendingWindowInDays": days}, nil
}

// leave has a key that could sign go on for as long as the service takes to
// settle.
func (s *Server) leave(k *key) {
	if k.state == "Enabled" {
		k.usable = s.now().Add(s.settle)
	}
}

// cancelKeyDeletion saves a key; it is disabled.
func (s *Server) cancelKeyDeletion(in request) (any, error) {
	k, err := s.lookup(in.KeyId)
	if err != nil {
		return nil, err
	}
	if k.state != "PendingDeletion" && k.state != "PendingReplicaDeletion" {
		return nil, fails("KMSInvalidStateException", "%s is not pending deletion.", arn(k.id))
	}
	k.state, k.deletion = "Disabled", time.Time{}
	return map[string]any{"KeyId": arn(k.id)}, nil
}

func (s *Server) enableKey(in request) (any, error)  { return s.turn(in, "Enabled") }
func (s *Server) disableKey(in request) (any, error) { return s.turn(in, "Disabled") }

func (s *Server) turn(in request, state string) (any, error) {
	k, err := s.lookup(in.KeyId)
	if err != nil {
		return nil, err
	}
	if k.state != "Enabled" && k.state != "Disabled" {
		return nil, fails("KMSInvalidStateException", "%s is pending deletion.", arn(k.id))
	}
	s.leave(k)
	k.state = state
	return map[string]any{}, nil
}

func (s *Server) createAlias(in request) (any, error) {
	switch {
	case s.aliases[in.AliasName] != nil:
		return nil, fails("AlreadyExistsException", "An alias with the name arn:aws:kms:%s:%s:%s already exists", Region, account, in.AliasName)
	case !strings.HasPrefix(in.AliasName, "alias/") || strings.HasPrefix(in.AliasName, "alias/aws/") || len(in.AliasName) > 256:
		return nil, fails("InvalidAliasNameException", "%s", in.AliasName)
	}
	k, err := s.lookup(in.TargetKeyId)
	if err != nil {
		return nil, err
	}
	if k.state != "Enabled" {
		return nil, fails("KMSInvalidStateException", "%s is pending deletion.", arn(k.id))
	}
	s.aliases[in.AliasName] = &alias{k.id, s.now().Add(s.settle)}
	return map[string]any{}, nil
}

func (s *Server) deleteAlias(in request) (any, error) {
	if s.aliases[in.AliasName] == nil {
		return nil, fails("NotFoundException", "Alias %s is not found.", in.AliasName)
	}
	delete(s.aliases, in.AliasName)
	return map[string]any{}, nil
}

// page is how many entries a list's answer has at most.
const page = 3

// paged cuts a list: Marker is where to go on.
func paged(all []string, marker string) (some []string, next string) {
	slices.Sort(all)
	at, _ := slices.BinarySearch(all, marker)
	some = all[at:]
	if len(some) > page {
		return some[:page], some[page]
	}
	return some, ""
}

func (s *Server) listAliases(in request) (any, error) {
	var names []string
	for name, a := range s.aliases {
		if !s.now().Before(a.found) && (in.KeyId == "" || in.KeyId == a.key || in.KeyId == arn(a.key)) {
			names = append(names, name)
		}
	}
	some, next := paged(names, in.Marker)
	entries := []map[string]any{}
	for _, name := range some {
		entries = append(entries, map[string]any{"AliasName": name, "TargetKeyId": s.aliases[name].key})
	}
	return listed("Aliases", entries, next), nil
}

func (s *Server) listKeys(in request) (any, error) {
	var ids []string
	for id, k := range s.keys {
		if !s.now().Before(k.found) {
			ids = append(ids, id)
		}
	}
	some, next := paged(ids, in.Marker)
	entries := []map[string]any{}
	for _, id := range some {
		entries = append(entries, map[string]any{"KeyId": id, "KeyArn": arn(id)})
	}
	return listed("Keys", entries, next), nil
}

func (s *Server) listResourceTags(in request) (any, error) {
	k, err := s.lookup(in.KeyId)
	if err != nil {
		return nil, err
	}
	some, next := paged(slices.Collect(maps.Keys(k.tags)), in.Marker)
	entries := []map[string]any{}
	for _, name := range some {
		entries = append(entries, map[string]any{"TagKey": name, "TagValue": k.tags[name]})
	}
	return listed("Tags", entries, next), nil
}

func listed(name string, entries []map[string]any, next string) map[string]any {
	out := map[string]any{name: entries, "Truncated": next != ""}
	if next != "" {
		out["NextMarker"] = next
	}
	return out
}
