"""The half of new_tokens that needs torch."""


class NewTokens:
    def attach(self, view, config):
        view.add_tokens(config.tokens)
        return {}
