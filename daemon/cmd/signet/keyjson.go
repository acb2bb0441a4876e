package main

import (
	"google.golang.org/grpc"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
)

type callOption = grpc.CallOption

// keyJSON is a key as --json prints it. Field names are part of the interface.
type keyJSON struct {
	Name      string        `json:"name"`
	Backend   string        `json:"backend"`
	State     string        `json:"backend_state,omitempty"`
	Algorithm string        `json:"algorithm"`
	Format    string        `json:"format"`
	Versions  []versionJSON `json:"versions"`
}

type versionJSON struct {
	Number    uint32 `json:"number"`
	State     string `json:"state"`
	Kid       string `json:"kid"`
	BackendID string `json:"backend_id"`
	Created   string `json:"created,omitempty"`
	Published string `json:"published,omitempty"`
	Activated string `json:"activated,omitempty"`
	Retired   string `json:"retired,omitempty"`
	Unpublish string `json:"unpublish,omitempty"`
	Revoked   string `json:"revoked,omitempty"`
	Destroyed string `json:"destroyed,omitempty"`
	Problem   string `json:"problem,omitempty"` // why it can't do what its state says
}

func jsonKey(k *signetv1.Key) keyJSON {
	out := keyJSON{Name: k.GetName(), Backend: k.GetBackend(), State: k.GetBackendState(), Algorithm: k.GetAlgorithm(), Format: k.GetFormat(), Versions: []versionJSON{}}
	for _, v := range k.GetVersions() {
		out.Versions = append(out.Versions, versionJSON{
			Number: v.GetNumber(), State: v.GetState(), Kid: v.GetKid(), BackendID: v.GetBackendId(),
			Created: stamp(v.GetCreated()), Published: stamp(v.GetPublished()), Activated: stamp(v.GetActivated()),
			Retired: stamp(v.GetRetired()), Unpublish: stamp(v.GetUnpublish()), Revoked: stamp(v.GetRevoked()), Destroyed: stamp(v.GetDestroyed()), Problem: v.GetProblem(),
		})
	}
	return out
}

// stamp is a time in JSON, absent for never.
func stamp(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return instant(seconds)
}
