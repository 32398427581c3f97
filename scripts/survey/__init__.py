"""What docs/survey.zh-CN.md is made of: chapters, counted numbers, and networks to argue with."""
