"""What every training needs, with nothing about distillation: arguments, the trainer, scoring, the model card."""
