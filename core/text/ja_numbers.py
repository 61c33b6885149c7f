"""x"""
def expand(text: str) -> str:
    return text.replace("％", "パーセント")
