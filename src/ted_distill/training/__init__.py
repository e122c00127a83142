"""What every training needs and nothing of distillation: arguments, the trainer, scoring, the model card."""
