package api

import (
	"context"
	"fmt"
	"slices"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/keyring"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	"github.com/tuskvault/tuskvault/internal/unlock"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// keyService is KeyService.
type keyService struct {
	tuskvaultv1.UnimplementedKeyServiceServer
	deps Deps
}

// keyBy gives the caller in the words of package keyring.
func keyBy(ctx context.Context) (keyring.By, error) {
	c, err := CallerFrom(ctx)
	return keyring.By{Actor: c.String(), Address: c.Address}, err
}

// ListKeys lists the ways to open the repository, oldest first.
func (s *keyService) ListKeys(ctx context.Context, _ *tuskvaultv1.ListKeysRequest) (*tuskvaultv1.ListKeysResponse, error) {
	keys, err := s.deps.Keyring.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	slices.SortFunc(keys, keyring.Compare)
	out := &tuskvaultv1.ListKeysResponse{}
	for _, k := range keys {
		out.Keys = append(out.Keys, toKey(k))
	}
	return out, nil
}

// AddKey adds one.
func (s *keyService) AddKey(ctx context.Context, r *tuskvaultv1.AddKeyRequest) (*tuskvaultv1.AddKeyResponse, error) {
	by, err := keyBy(ctx)
	if err != nil {
		return nil, err
	}
	id, err := repo.ParseID(r.GetId())
	if err != nil {
		return nil, fmt.Errorf("add key: id %w", err)
	}
	u, what, err := unlockerOf(r)
	if err != nil {
		return nil, fmt.Errorf("add key: %w", err)
	}
	k := catalog.Key{ID: id, Name: r.GetName()}
	if n := len(r.GetSheetConfirmation()); n != 0 {
		if n != len(k.Confirmation) || r.GetDerived().GetKind() != uint32(seal.WrapKeyFile) {
			return nil, fmt.Errorf("add key: a sheet's confirmation of %d bytes: %w", n, errs.Invalid)
		}
		k.Sheet, k.Confirmation, what = true, [32]byte(r.GetSheetConfirmation()), "recovery sheet"
	}
	made, err := s.deps.Keyring.Add(ctx, k, u, what, by)
	if err != nil {
		return nil, err
	}
	f, head := s.deps.Facts, s.deps.Facts.Head()
	return &tuskvaultv1.AddKeyResponse{Key: toKey(made), RepositoryId: f.Repository.String(), RepositoryName: f.Name, Store: f.Store,
		LogNumber: head.Number, LogEpoch: head.Epoch, LogHash: head.Hash[:]}, nil
}

// unlockerOf reads what opens the repository with a new key, and what it is in words.
func unlockerOf(r *tuskvaultv1.AddKeyRequest) (seal.Unlocker, string, error) {
	if text := r.GetAgeRecipient(); text != "" {
		u, err := unlock.ParseRecipient(text)
		if err != nil {
			return nil, "", err
		}
		return u, "age recipient " + u.String(), nil
	}
	d := r.GetDerived()
	if len(d.GetSalt()) != 32 || len(d.GetRoot()) != 32 || d.GetKind() > 255 {
		return nil, "", fmt.Errorf("neither a derived secret nor an age recipient: %w", errs.Invalid)
	}
	kind := seal.WrapKind(d.GetKind())
	u, err := seal.NewDerived(kind, seal.KDF{Kind: kind, Time: d.GetTime(), MemoryKiB: d.GetMemoryKib(), Threads: d.GetThreads()},
		[32]byte(d.GetSalt()), [32]byte(d.GetRoot()))
	if err != nil {
		return nil, "", err
	}
	return u, kind.String(), nil
}

// RemoveKey removes one.
func (s *keyService) RemoveKey(ctx context.Context, r *tuskvaultv1.RemoveKeyRequest) (*tuskvaultv1.RemoveKeyResponse, error) {
	by, err := keyBy(ctx)
	if err != nil {
		return nil, err
	}
	id, err := s.deps.Keyring.Remove(ctx, r.GetKey(), by)
	if err != nil {
		return nil, err
	}
	return &tuskvaultv1.RemoveKeyResponse{Id: id.String()}, nil
}

// ConfirmKey takes the word of a recovery sheet.
func (s *keyService) ConfirmKey(ctx context.Context, r *tuskvaultv1.ConfirmKeyRequest) (*tuskvaultv1.ConfirmKeyResponse, error) {
	by, err := keyBy(ctx)
	if err != nil {
		return nil, err
	}
	k, err := s.deps.Keyring.Confirm(ctx, r.GetWord(), by)
	if err != nil {
		return nil, err
	}
	return &tuskvaultv1.ConfirmKeyResponse{Key: toKey(k)}, nil
}

// RotateSealKeys gives every domain a new seal key.
func (s *keyService) RotateSealKeys(ctx context.Context, _ *tuskvaultv1.RotateSealKeysRequest) (*tuskvaultv1.RotateSealKeysResponse, error) {
	by, err := keyBy(ctx)
	if err != nil {
		return nil, err
	}
	n, err := s.deps.Keyring.Rotate(ctx, by)
	if err != nil {
		return nil, err
	}
	return &tuskvaultv1.RotateSealKeysResponse{Domains: int32(n)}, nil
}

// RotateMasterKey replaces the master key.
func (s *keyService) RotateMasterKey(ctx context.Context, r *tuskvaultv1.RotateMasterKeyRequest) (*tuskvaultv1.RotateMasterKeyResponse, error) {
	by, err := keyBy(ctx)
	if err != nil {
		return nil, err
	}
	var c keyring.Change
	if r.GetPlan() {
		c, err = s.deps.Keyring.Plan(ctx)
	} else {
		var agreed []repo.ID
		for _, text := range r.GetLoseIds() {
			id, err := repo.ParseID(text)
			if err != nil {
				return nil, fmt.Errorf("rotate master key: id %w", err)
			}
			agreed = append(agreed, id)
		}
		c, err = s.deps.Keyring.RotateMaster(ctx, agreed, by)
	}
	if err != nil {
		return nil, err
	}
	out := &tuskvaultv1.RotateMasterKeyResponse{Master: c.Master, Removed: int32(c.Removed), Remaining: int32(c.Remaining)}
	for _, k := range c.Kept {
		out.Kept = append(out.Kept, toKey(k))
	}
	for _, k := range c.Lost {
		out.Lost = append(out.Lost, toKey(k))
	}
	return out, nil
}

func toKey(k keyring.Key) *tuskvaultv1.RepositoryKey {
	return &tuskvaultv1.RepositoryKey{Id: k.ID.String(), Name: k.Name, Kind: k.Kind, CreateTime: toTime(k.Created), CreatedBy: k.CreatedBy,
		Sheet: k.Sheet, ConfirmTime: toTime(k.Confirmed), InUse: k.InUse}
}
