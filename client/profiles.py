"""Profiles: who others are, and who one is oneself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from client.requests import Request
from packs import structs as s
from packs import table as t


@dataclass(frozen=True)
class Profile:
    """A user as he shows himself; of an unknown one only the id is there. `birthday` in ms. `mobile` is told to
    friends only."""

    user: str
    name: str = ""
    avatar: str = ""
    mobile: str = ""
    birthday: int = 0


class Profiles:
    """As one user sees them."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def get(self, users: Iterable[str]) -> list[Profile]:
        """Of several users, in the order asked."""
        response: s.UserInfoGetResp = self._request(t.USERINFO_GET, s.UserInfoGetReq(user_ids=list(users)))
        return [Profile(u.user_id, u.name, u.avatar, u.mobile, u.birthday) for u in response.user_infos]

    def update(self, *, name: str = "", avatar: str = "", mobile: str = "", birthday: int = 0) -> None:
        """Replace one's own: what is not given is empty afterwards."""
        info = s.UserInfo(name=name, avatar=avatar, mobile=mobile, birthday=birthday)
        self._request(t.USERINFO_UPDATE, s.UserInfoUpdateReq(user_info=info))
