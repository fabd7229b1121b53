package main

import "context"

func showTop(ctx context.Context, socket string, q topRequest) error { return nil }
