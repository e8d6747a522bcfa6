package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/seal"
)

const (
	maxEpochBytes = 4 << 10
	purposeEpoch  = "epoch"
)

// EpochClaim is the claim of a controller epoch.
type EpochClaim struct {
	Version int    `json:"version"`
	Epoch   uint64 `json:"epoch"`
	// Claim is random: it tells two claimants apart.
	Claim   string    `json:"claim"`
	Created time.Time `json:"created"`
}

// ClaimEpoch begins a new controller epoch, one above the newest. Whoever has a
// lower one must stop writing as soon as it notices.
//
// One durable step: epochs/<n+1>, if it does not exist. A crash after it leaves
// an epoch that nobody uses; the next claim goes above it. Somebody who claimed
// the same number first is errs.Conflict: two controllers are being started, and
// the one that lost must not go on. An answer that did not come
// (errs.Unavailable) leaves a claim that may or may not exist: claim again.
func (r *Repository) ClaimEpoch(ctx context.Context) (uint64, error) {
	latest, err := r.LatestEpoch(ctx)
	if err != nil {
		return 0, fmt.Errorf("claim epoch: %w", err)
	}
	epoch := latest + 1
	key := EpochObject(epoch)
	text, err := json.Marshal(EpochClaim{Version: 1, Epoch: epoch, Claim: NewID().String(), Created: time.Now().UTC()})
	if err != nil {
		return 0, fmt.Errorf("claim epoch %d: %w", epoch, err)
	}
	sealed, err := seal.SealBlob(r.current().key.Catalog(), purposeEpoch, r.aad(key), text)
	if err != nil {
		return 0, fmt.Errorf("claim epoch %d: %w", epoch, err)
	}
	err = r.store.Create(ctx, key, blob.Bytes(sealed))
	if errors.Is(err, errs.Exists) {
		return 0, fmt.Errorf("claim epoch %d: another controller claimed it just now: %w", epoch, errs.Conflict)
	}
	if err != nil {
		return 0, fmt.Errorf("claim epoch %d: %w", epoch, err)
	}
	return epoch, nil
}

// LatestEpoch is the newest controller epoch that was claimed, 0 when none was.
func (r *Repository) LatestEpoch(ctx context.Context) (uint64, error) {
	var latest uint64
	err := r.store.List(ctx, EpochsPrefix, "", func(info blob.Info) error {
		n, err := ParseEpochObject(info.Key)
		latest = n // keys come in order
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("list epochs: %w", err)
	}
	return latest, nil
}

// Epoch reads the claim of an epoch.
func (r *Repository) Epoch(ctx context.Context, epoch uint64) (EpochClaim, error) {
	key := EpochObject(epoch)
	sealed, err := blob.ReadAll(ctx, r.store, key, maxEpochBytes)
	if err != nil {
		return EpochClaim{}, fmt.Errorf("read epoch: %w", err)
	}
	return r.openEpoch(key, epoch, sealed)
}

// openEpoch opens a claim that was found under key.
func (r *Repository) openEpoch(key string, epoch uint64, sealed []byte) (EpochClaim, error) {
	var c EpochClaim
	text, err := openCatalog(r.current().all(), purposeEpoch, r.aad(key), sealed)
	if err != nil {
		return c, fmt.Errorf("%s: %w", key, err)
	}
	if err := strictJSON(text, &c); err != nil || c.Version != 1 || c.Epoch != epoch {
		return c, fmt.Errorf("%s: epoch %d, version %d: %w", key, c.Epoch, c.Version, errs.Corrupt)
	}
	return c, nil
}
