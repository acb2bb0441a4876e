// Package kmskill kills a keyring on a cloud's KMS at every step of making and
// rotating a key (kill -9, at each request before and after its work, and at
// each save before and after it), starts it again, and counts the keys that can
// sign in the end:
//
//	go test ./conformance/kmskill                               a sample
//	bash conformance/test.sh --campaign kms-kill                200 rounds each
package kmskill
