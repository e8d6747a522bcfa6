package catalog

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// tokenBytes is the length of a token's id.
const tokenBytes = 6

func tokenKey(id TokenID) ([]byte, error) {
	key, err := hex.DecodeString(string(id))
	if err != nil || len(key) != tokenBytes {
		return nil, fmt.Errorf("join token %q: %w", string(id), errs.NotFound)
	}
	return key, nil
}

// Token gives the token with this id.
func (tx *Tx) Token(id TokenID) (Token, error) {
	key, err := tokenKey(id)
	if err != nil {
		return Token{}, err
	}
	return get(tx, bucketTokens, key, "join token "+string(id), fromToken)
}

// FindToken gives the token with this id or unique prefix of one.
func (tx *Tx) FindToken(prefix string) (Token, error) {
	key, err := findPrefix(tx, bucketTokens, "join token", prefix, tokenBytes)
	if err != nil {
		return Token{}, err
	}
	return get(tx, bucketTokens, key, "join token "+prefix, fromToken)
}

// PutToken writes a token.
func (tx *Tx) PutToken(t Token) error {
	key, err := tokenKey(t.ID)
	if err != nil {
		return fmt.Errorf("join token %q: its id is not %d hex digits: %w", string(t.ID), 2*tokenBytes, errs.Invalid)
	}
	var was []byte
	old, err := tx.Token(t.ID)
	switch {
	case err == nil:
		was = join(newest(old.Created), key)
	case !errors.Is(err, errs.NotFound):
		return err
	}
	if err := tx.move(indexTokenTimes, was, join(newest(t.Created), key)); err != nil {
		return err
	}
	return tx.put(bucketTokens, key, toToken(t))
}

// DeleteToken removes a token; one that does not exist is NotFound.
func (tx *Tx) DeleteToken(id TokenID) error {
	old, err := tx.Token(id)
	if err != nil {
		return err
	}
	key, err := tokenKey(id)
	if err != nil {
		return err
	}
	if err := tx.move(indexTokenTimes, join(newest(old.Created), key), nil); err != nil {
		return err
	}
	return tx.delete(bucketTokens, key)
}

// Tokens lists tokens, newest first.
func (tx *Tx) Tokens(page Page, keep func(Token) bool) ([]Token, string, error) {
	return list(tx, indexTokenTimes, nil, page, func(k, _ []byte) (Token, error) {
		return get(tx, bucketTokens, k[8:], "join token", fromToken)
	}, keep)
}
