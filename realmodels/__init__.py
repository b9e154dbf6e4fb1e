"""Image models with real images behind them: transformers over digits, their training, their quality."""
